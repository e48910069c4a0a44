; The queries of typescript.scm come first (see grammars.py); here is what only JSX has.
(jsx_opening_element name: (identifier) @reference.call)
(jsx_self_closing_element name: (identifier) @reference.call)
