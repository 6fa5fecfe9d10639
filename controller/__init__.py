"""The controller: it decides. ARCHITECTURE.md is the map; a folder per noun."""
