(method name: (_) @name) @definition.function
(singleton_method name: (_) @name) @definition.method
(class name: [(constant) @name (scope_resolution name: (constant) @name)]) @definition.class
(module name: [(constant) @name (scope_resolution name: (constant) @name)]) @definition.module
(assignment left: (constant) @name) @definition.constant
(call method: (identifier) @reference.call)
(superclass [(constant) @reference.inherit (scope_resolution name: (constant) @reference.inherit)])
(call receiver: (constant) @reference.type)
(call method: (identifier) @_require (#match? @_require "^(require|require_relative|load)$") arguments: (argument_list (string (string_content) @import)))
