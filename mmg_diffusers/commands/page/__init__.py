"""What pages are made of: their look, tables, figures as SVG, pictures with maps over them. `report` and `word_page` put pages together.

Nothing here measures. A page is one file: it loads nothing, and without its script all numbers are there.
"""
