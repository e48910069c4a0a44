(function_or_value_defn (function_declaration_left . (identifier) @name)) @definition.function
(type_definition (_ (type_name type_name: (identifier) @name))) @definition.type
(named_module name: (long_identifier) @name) @definition.module
(application_expression . (long_identifier_or_op (identifier) @reference.call))
