"""The OpenAPI document: a description per route, and an assembly that completes it."""
