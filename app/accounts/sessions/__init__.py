"""Sign-ins: opened, renewed, ended; what a token proves."""
