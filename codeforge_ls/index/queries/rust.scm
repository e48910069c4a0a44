(function_item name: (identifier) @name) @definition.function
(function_signature_item name: (identifier) @name) @definition.function
(struct_item name: (type_identifier) @name) @definition.struct
(union_item name: (type_identifier) @name) @definition.struct
(enum_item name: (type_identifier) @name) @definition.enum
(trait_item name: (type_identifier) @name) @definition.interface
(type_item name: (type_identifier) @name) @definition.type
(mod_item name: (identifier) @name) @definition.module
(const_item name: (identifier) @name) @definition.constant
(static_item name: (identifier) @name) @definition.variable
(macro_definition name: (identifier) @name) @definition.macro
(field_declaration name: (field_identifier) @name) @definition.field
(impl_item type: [(type_identifier) @name (generic_type type: (type_identifier) @name)]) @definition.scope
(impl_item trait: [(type_identifier) @reference.inherit (generic_type type: (type_identifier) @reference.inherit) (scoped_type_identifier name: (type_identifier) @reference.inherit)])
(call_expression function: [(identifier) @reference.call (field_expression field: (field_identifier) @reference.call) (scoped_identifier name: (identifier) @reference.call) (generic_function function: (identifier) @reference.call)])
(macro_invocation macro: [(identifier) @reference.call (scoped_identifier name: (identifier) @reference.call)])
(struct_expression name: (type_identifier) @reference.type)
(parameter type: [(type_identifier) @reference.type (reference_type (type_identifier) @reference.type) (generic_type type: (type_identifier) @reference.type)])
(function_item return_type: [(type_identifier) @reference.type (generic_type type: (type_identifier) @reference.type)])
(field_declaration type: [(type_identifier) @reference.type (generic_type type: (type_identifier) @reference.type)])
(type_arguments (type_identifier) @reference.type)
(use_declaration argument: (_) @import)
(mod_item !body name: (identifier) @import)
