"""Where the real routes and their floors are."""

REAL_HOOKS, BARE_HOOKS, SINGLE_HOOKS = "/hooks/vendure", "/bare/hooks/vendure", "/single/hooks/vendure"
REAL_ORDERS, BARE_ORDERS = "/orders", "/bare/orders"
