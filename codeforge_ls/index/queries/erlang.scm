(fun_decl clause: (function_clause name: (atom) @name)) @definition.function
(module_attribute name: (atom) @name) @definition.module
(record_decl name: (atom) @name) @definition.struct
(call expr: [(atom) @reference.call (remote fun: (atom) @reference.call)])
