"""``zcrx-bench``: receivers side by side, and an iperf3 server that receives by zcrx."""
