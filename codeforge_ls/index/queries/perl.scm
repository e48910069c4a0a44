(package_statement name: (package) @name) @definition.module
(subroutine_declaration_statement name: (bareword) @name) @definition.function
(function_call_expression function: (function) @reference.call)
(method_call_expression method: (method) @reference.call)
(use_statement module: (package) @import)
