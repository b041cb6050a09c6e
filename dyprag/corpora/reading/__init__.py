"""Convert files to plain text, without the markup, menus and page furniture of their formats."""
