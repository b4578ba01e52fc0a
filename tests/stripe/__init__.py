"""Stripe's events and objects in their documented shape, with data of our own: `events/` holds one of each kind."""
