(FnProto function: (IDENTIFIER) @name) @definition.function
(VarDecl variable_type_function: (IDENTIFIER) @name (ErrorUnionExpr (SuffixExpr (ContainerDecl (ContainerDeclType "struct"))))) @definition.struct
(VarDecl variable_type_function: (IDENTIFIER) @name (ErrorUnionExpr (SuffixExpr (ContainerDecl (ContainerDeclType "union"))))) @definition.struct
(VarDecl variable_type_function: (IDENTIFIER) @name (ErrorUnionExpr (SuffixExpr (ContainerDecl (ContainerDeclType "enum"))))) @definition.enum
(source_file (Decl (VarDecl "const" variable_type_function: (IDENTIFIER) @name) @definition.constant))
(source_file (Decl (VarDecl variable_type_function: (IDENTIFIER) @name) @definition.variable))
(ContainerField field_member: (IDENTIFIER) @name) @definition.field
(SuffixExpr variable_type_function: (IDENTIFIER) @reference.call . (FnCallArguments))
(FieldOrFnCall function_call: (IDENTIFIER) @reference.call)
(ParamType (ErrorUnionExpr (SuffixExpr variable_type_function: (IDENTIFIER) @reference.type)))
(SuffixExpr (BUILTINIDENTIFIER) @_import (#eq? @_import "@import") (FnCallArguments (ErrorUnionExpr (SuffixExpr (STRINGLITERALSINGLE) @import))))
