raise SystemExit("not the one")
