(rule (targets (word) @name)) @definition.function
(variable_assignment name: (word) @name) @definition.variable
