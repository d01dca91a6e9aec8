"""What the command line does after it has parsed its arguments; heavy libraries are imported from here on."""
