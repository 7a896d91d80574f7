"""The JSON API for shop plugins."""
