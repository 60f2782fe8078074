-- What an auth handler has put on an item: whose it is. Null for items that nobody was asked about, such as graphs' own.
-- The table is LangGraph's; the name is none that it would take.
ALTER TABLE store ADD COLUMN durathread_stamp JSONB;
