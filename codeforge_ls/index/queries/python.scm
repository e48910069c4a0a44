(function_definition name: (identifier) @name) @definition.function
(class_definition name: (identifier) @name) @definition.class
(module [(assignment left: (identifier) @name) @definition.variable (expression_statement (assignment left: (identifier) @name) @definition.variable)])
(class_definition body: (block [(assignment left: (identifier) @name) @definition.field (expression_statement (assignment left: (identifier) @name) @definition.field)]))
(call function: [(identifier) @reference.call (attribute attribute: (identifier) @reference.call)])
(decorator [(identifier) @reference.call (attribute attribute: (identifier) @reference.call)])
(class_definition superclasses: (argument_list [(identifier) @reference.inherit (attribute attribute: (identifier) @reference.inherit)]))
(type [(identifier) @reference.type (attribute attribute: (identifier) @reference.type) (generic_type (identifier) @reference.type)])
(type (binary_operator (identifier) @reference.type))
(import_statement name: [(dotted_name) @import (aliased_import name: (dotted_name) @import)])
(import_from_statement module_name: [(dotted_name) @import (relative_import) @import])
(import_from_statement name: [(dotted_name (identifier) @reference.import) (aliased_import name: (dotted_name (identifier) @reference.import))])
