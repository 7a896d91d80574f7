"""The double-entry ledger: chart, postings, the one writer, balances."""
