"""What pyzcrx itself costs, counted and timed; of the checkout alone, not of the wheel."""
