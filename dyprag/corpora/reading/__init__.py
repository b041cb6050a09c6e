"""Files as plain text: what a document says, without the marks, menus and page furniture of its format."""
