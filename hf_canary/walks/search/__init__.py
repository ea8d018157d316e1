"""The search walk: the cheapest leaves first, with a bound on all others (§8.2)."""
