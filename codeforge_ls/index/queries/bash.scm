(function_definition name: (word) @name) @definition.function
(program (variable_assignment name: (variable_name) @name) @definition.variable)
(program (declaration_command (variable_assignment name: (variable_name) @name) @definition.variable))
(command name: (command_name (word) @reference.call))
(command name: (command_name (word) @_source) (#match? @_source "^(source|\\.)$") . argument: [(word) (string) (concatenation)] @import)
