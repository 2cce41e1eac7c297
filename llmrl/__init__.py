"""What the four stages share."""

from llmrl import repository

# First of all, as Hugging Face's libraries read their settings once, when they are imported.
if (env := repository.root() / ".env").exists():
    import dotenv

    dotenv.load_dotenv(env)
