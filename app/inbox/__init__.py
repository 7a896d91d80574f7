"""Events received from payment service providers."""
