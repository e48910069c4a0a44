(class_definition name: (identifier) @name) @definition.class
(object_definition name: (identifier) @name) @definition.class
(trait_definition name: (identifier) @name) @definition.interface
(enum_definition name: (identifier) @name) @definition.enum
(type_definition name: (type_identifier) @name) @definition.type
(function_definition name: [(identifier) (operator_identifier)] @name) @definition.function
(function_declaration name: [(identifier) (operator_identifier)] @name) @definition.function
(template_body (val_definition pattern: (identifier) @name) @definition.field)
(template_body (var_definition pattern: (identifier) @name) @definition.field)
(package_object name: (identifier) @name) @definition.module
(call_expression function: [(identifier) @reference.call (field_expression field: (identifier) @reference.call) (generic_function function: (identifier) @reference.call)])
(instance_expression (type_identifier) @reference.type)
(extends_clause type: [(type_identifier) @reference.inherit (generic_type type: (type_identifier) @reference.inherit)])
(parameter type: [(type_identifier) @reference.type (generic_type type: (type_identifier) @reference.type)])
(class_parameter type: [(type_identifier) @reference.type (generic_type type: (type_identifier) @reference.type)])
(function_definition return_type: [(type_identifier) @reference.type (generic_type type: (type_identifier) @reference.type)])
(type_arguments (type_identifier) @reference.type)
(import_declaration) @import
