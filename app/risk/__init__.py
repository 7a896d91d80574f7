"""Whether a payment may go to its PSP: rules, a provider that is asked, and what people say."""
