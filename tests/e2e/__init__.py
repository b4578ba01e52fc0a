"""A real Vendure shop, driven by a script of shop and admin actions.

`capture` records the shop's hooks for every other test; the tests here run the same script against a
live mirror and compare the ends.
"""
