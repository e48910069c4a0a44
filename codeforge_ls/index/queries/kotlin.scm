(class_declaration "class" (type_identifier) @name) @definition.class
(class_declaration "interface" (type_identifier) @name) @definition.interface
(class_declaration "enum" (type_identifier) @name) @definition.enum
(object_declaration (type_identifier) @name) @definition.class
(function_declaration (simple_identifier) @name) @definition.function
(type_alias (type_identifier) @name) @definition.type
(class_body (property_declaration (variable_declaration (simple_identifier) @name)) @definition.field)
(source_file (property_declaration (variable_declaration (simple_identifier) @name)) @definition.variable)
(class_parameter (simple_identifier) @name) @definition.field
(enum_entry (simple_identifier) @name) @definition.constant
(call_expression . (simple_identifier) @reference.call)
(call_expression (navigation_expression (navigation_suffix (simple_identifier) @reference.call)))
(delegation_specifier [(user_type (type_identifier) @reference.inherit) (constructor_invocation (user_type (type_identifier) @reference.inherit))])
(parameter (user_type (type_identifier) @reference.type))
(class_parameter (user_type (type_identifier) @reference.type))
(variable_declaration (user_type (type_identifier) @reference.type))
(function_declaration (user_type (type_identifier) @reference.type))
(import_header (identifier) @import)
