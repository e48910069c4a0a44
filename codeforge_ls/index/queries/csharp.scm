(class_declaration name: (identifier) @name) @definition.class
(record_declaration name: (identifier) @name) @definition.class
(struct_declaration name: (identifier) @name) @definition.struct
(interface_declaration name: (identifier) @name) @definition.interface
(enum_declaration name: (identifier) @name) @definition.enum
(enum_member_declaration name: (identifier) @name) @definition.constant
(delegate_declaration name: (identifier) @name) @definition.type
(method_declaration name: (identifier) @name) @definition.method
(constructor_declaration name: (identifier) @name) @definition.method
(local_function_statement name: (identifier) @name) @definition.function
(property_declaration name: (identifier) @name) @definition.field
(field_declaration (variable_declaration (variable_declarator name: (identifier) @name))) @definition.field
(event_field_declaration (variable_declaration (variable_declarator name: (identifier) @name))) @definition.field
(namespace_declaration name: (_) @name) @definition.module
(invocation_expression function: [(identifier) @reference.call (generic_name (identifier) @reference.call) (member_access_expression name: (identifier) @reference.call) (member_access_expression name: (generic_name (identifier) @reference.call))])
(object_creation_expression type: [(identifier) @reference.type (generic_name (identifier) @reference.type)])
(base_list [(identifier) @reference.inherit (generic_name (identifier) @reference.inherit)])
(parameter type: [(identifier) @reference.type (generic_name (identifier) @reference.type)])
(variable_declaration type: [(identifier) @reference.type (generic_name (identifier) @reference.type)])
(property_declaration type: [(identifier) @reference.type (generic_name (identifier) @reference.type)])
(type_argument_list (identifier) @reference.type)
(attribute name: (identifier) @reference.type)
(using_directive [(identifier) (qualified_name)] @import)
