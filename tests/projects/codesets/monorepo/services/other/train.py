raise SystemExit("the other service")
