(function_declaration name: (identifier) @name) @definition.function
(function_declaration name: (dot_index_expression table: (_) @receiver field: (identifier) @name)) @definition.function
(function_declaration name: (method_index_expression table: (_) @receiver method: (identifier) @name)) @definition.method
(assignment_statement (variable_list . name: (identifier) @name) (expression_list . value: (function_definition))) @definition.function
(assignment_statement (variable_list . name: (dot_index_expression table: (_) @receiver field: (identifier) @name)) (expression_list . value: (function_definition))) @definition.function
(chunk (variable_declaration (assignment_statement (variable_list . name: (identifier) @name)) @definition.variable))
(field name: (identifier) @name value: (function_definition)) @definition.function
(function_call name: [(identifier) @reference.call (dot_index_expression field: (identifier) @reference.call) (method_index_expression method: (identifier) @reference.call)])
(function_call name: (identifier) @_require (#eq? @_require "require") arguments: (arguments (string (string_content) @import)))
