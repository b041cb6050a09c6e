"""The fact-recall benchmark: how many of a document's facts can be answered from its adapter alone."""
