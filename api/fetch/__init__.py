"""Pictures by web address: fetched for a client, from servers that anyone could reach, within limits."""
