(class_definition name: (identifier) @name) @definition.class
(mixin_declaration (identifier) @name) @definition.class
(enum_declaration name: (identifier) @name) @definition.enum
(function_signature name: (identifier) @name) @definition.function
(getter_signature name: (identifier) @name) @definition.method
(constructor_signature name: (identifier) @name) @definition.method
(superclass (type_identifier) @reference.inherit)
(expression_statement (identifier) @reference.call . (selector (argument_part)))
(selector (unconditional_assignable_selector (identifier) @reference.call) . )
(type_identifier) @reference.type
(import_specification (configurable_uri (uri (string_literal) @import)))
