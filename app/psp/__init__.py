"""Payment service providers: one port, one registry, one package a provider."""
