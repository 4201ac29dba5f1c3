"""PID 1 of the guest."""

from vm.inside.agent import main

main()
