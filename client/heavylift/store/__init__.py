"""The only code that talks to Redis: Lua scripts in files, operations without I/O, two short runners."""
