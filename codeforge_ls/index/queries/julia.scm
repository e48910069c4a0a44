(function_definition (signature (call_expression . (identifier) @name))) @definition.function
(assignment . (call_expression . (identifier) @name)) @definition.function
(macro_definition (signature (call_expression . (identifier) @name))) @definition.macro
(struct_definition (type_head (identifier) @name)) @definition.struct
(module_definition name: (identifier) @name) @definition.module
(const_statement (assignment . (identifier) @name)) @definition.constant
(call_expression . (identifier) @reference.call)
(using_statement (identifier) @import)
(import_statement (identifier) @import)
