"""What the four stages share."""

import dotenv

from llmrl import repository

# First of all, as Hugging Face's libraries read their settings once, when they are imported.
dotenv.load_dotenv(repository.root() / ".env")
