"""The OpenAPI document, part by part, and what makes it complete and true."""
