"""Where what is shown comes from: one interface, and a host or the fleet behind it."""
