(function name: (variable) @name) @definition.function
(bind name: (variable) @name) @definition.function
(signature name: (variable) @name) @definition.function
(data_type name: (name) @name) @definition.type
(newtype name: (name) @name) @definition.type
(type_synomym name: (name) @name) @definition.type
(class name: (name) @name) @definition.interface
(header module: (module) @name) @definition.module
(data_constructor constructor: (prefix name: (constructor) @name)) @definition.constant
(data_constructor constructor: (record name: (constructor) @name)) @definition.constant
(field name: (field_name (variable) @name)) @definition.field
(apply function: [(variable) @reference.call (qualified id: (variable) @reference.call)])
(apply function: (constructor) @reference.type)
(infix operator: (operator) @reference.call)
(signature type: (_ (name) @reference.type))
(import module: (module) @import)
