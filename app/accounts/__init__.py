"""People: users, sessions, roles, second factors."""
