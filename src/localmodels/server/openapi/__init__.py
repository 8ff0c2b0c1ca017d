"""The description of all routes in the form of OpenAPI 3.1, and a page that shows it."""
