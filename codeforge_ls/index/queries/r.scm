(binary_operator lhs: (identifier) @name rhs: (function_definition)) @definition.function
(program (binary_operator lhs: (identifier) @name) @definition.variable)
(call function: (identifier) @reference.call)
