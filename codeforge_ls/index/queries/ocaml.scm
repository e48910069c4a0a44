(value_definition (let_binding pattern: (value_name) @name (parameter))) @definition.function
(value_definition (let_binding pattern: (value_name) @name)) @definition.variable
(module_binding (module_name) @name) @definition.module
(type_binding name: (type_constructor) @name) @definition.type
(class_binding name: (class_name) @name) @definition.class
(method_definition name: (method_name) @name) @definition.method
(constructor_declaration (constructor_name) @name) @definition.constant
(application_expression function: (value_path (value_name) @reference.call))
(open_module module: (module_path) @import)
