"""The server-rendered pages for merchants and admins."""
