(function_declaration name: (identifier) @name) @definition.function
(function_signature name: (identifier) @name) @definition.function
(generator_function_declaration name: (identifier) @name) @definition.function
(class_declaration name: (type_identifier) @name) @definition.class
(abstract_class_declaration name: (type_identifier) @name) @definition.class
(interface_declaration name: (type_identifier) @name) @definition.interface
(enum_declaration name: (identifier) @name) @definition.enum
(type_alias_declaration name: (type_identifier) @name) @definition.type
(internal_module name: (identifier) @name) @definition.module
(module name: [(identifier) (string)] @name) @definition.module
(method_definition name: [(property_identifier) (private_property_identifier)] @name) @definition.method
(method_signature name: (property_identifier) @name) @definition.method
(abstract_method_signature name: (property_identifier) @name) @definition.method
(public_field_definition name: [(property_identifier) (private_property_identifier)] @name) @definition.field
(property_signature name: (property_identifier) @name) @definition.field
(variable_declarator name: (identifier) @name value: [(arrow_function) (function_expression) (generator_function)]) @definition.function
(program (lexical_declaration (variable_declarator name: (identifier) @name) @definition.variable))
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @name) @definition.variable)))
(pair key: (property_identifier) @name value: [(arrow_function) (function_expression)]) @definition.function
(call_expression function: [(identifier) @reference.call (member_expression property: (property_identifier) @reference.call)])
(new_expression constructor: [(identifier) @reference.type (member_expression property: (property_identifier) @reference.type)])
(type_annotation [(type_identifier) @reference.type (generic_type (type_identifier) @reference.type) (array_type (type_identifier) @reference.type) (union_type (type_identifier) @reference.type)])
(type_arguments (type_identifier) @reference.type)
(extends_clause (identifier) @reference.inherit)
(implements_clause [(type_identifier) @reference.inherit (generic_type (type_identifier) @reference.inherit)])
(extends_type_clause [(type_identifier) @reference.inherit (generic_type (type_identifier) @reference.inherit)])
(import_statement source: (string (string_fragment) @import))
(export_statement source: (string (string_fragment) @import))
(import_specifier name: (identifier) @reference.import)
(import_clause (identifier) @reference.import)
(call_expression function: (identifier) @_require (#eq? @_require "require") arguments: (arguments (string (string_fragment) @import)))
