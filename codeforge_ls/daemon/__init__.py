"""The daemon of one workspace: election, socket, hello, sessions, idle exit, watchdog and orderly end."""
