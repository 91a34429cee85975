"""Many requests, many clients, much time: `make load` runs each scenario in full, the tests a small share of it."""
