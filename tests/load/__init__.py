"""Many requests, many clients, a long time: `make load` runs each scenario in full, the tests run a part of it."""
