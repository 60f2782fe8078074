SYSTEM_PROMPT = """You remember what people tell you about themselves. {user_info}

It is {time}."""
